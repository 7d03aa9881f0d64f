"""Files that a site file names."""

from dataclasses import dataclass
from pathlib import Path

from qkd_core.types.settings_table import SettingsTable


@dataclass(frozen=True, slots=True)
class Files:
    """Paths in the file, relative to its folder."""

    folder: Path

    def path(self, table: SettingsTable, key: str) -> Path:
        return self.folder / table.text(key)

    def existing(self, table: SettingsTable, key: str) -> Path:
        path = self.path(table, key)
        if not path.is_file():
            raise table.refuse(key, str(path), "must be a file that exists")
        return path
