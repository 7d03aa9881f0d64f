"""What the engine's process tells the site's other processes of its link's device.

A file of the state directory, replaced each second and not synced: such figures need not
outlive a crash, and a row a second would take the store's one writer and a sync of the disk.
"""

import json
import os
from pathlib import Path

from qkd_core.types.device import BoxFigures, DeviceFigures

FILE = "device.json"  # in the state directory

Figures = DeviceFigures | BoxFigures


def tell(state_dir: Path, figures: Figures) -> None:
    """Replace what was told before, for this user's eyes. Raises OSError."""
    kind = "device" if isinstance(figures, DeviceFigures) else "box"
    text = json.dumps({kind: figures.as_fields()})
    partial = state_dir / f"{FILE}.partial"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(state_dir / FILE)


def told(state_dir: Path) -> Figures | None:
    """What was told last; None before that, and of a file that says something else."""
    try:
        match json.loads((state_dir / FILE).read_text("utf-8")):
            case {"device": dict(fields)}:
                return DeviceFigures.from_fields(fields)
            case {"box": dict(fields)}:
                return BoxFigures.from_fields(fields)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None
