"""The program that the server starts."""

from qkd_kms_adapters.openbao_plugin.engine.engine import SecretsEngine
from qkd_kms_adapters.openbao_plugin.engine.kme import Kme, KmeSettings
from qkd_kms_adapters.openbao_plugin.process.running import main
from qkd_kms_adapters.openbao_plugin.transport.serving import PluginServer
from qkd_kms_adapters.openbao_plugin.version import VERSION


def connect(settings: KmeSettings) -> Kme:
    """Imports the client when a KME is first asked: no server waits for that."""
    from qkd_kms_adapters.openbao_plugin.kme_pool import KmePool

    return KmePool(settings)


if __name__ == "__main__":
    main(
        lambda place: PluginServer(place, lambda storage: SecretsEngine(storage, connect), VERSION)
    )
