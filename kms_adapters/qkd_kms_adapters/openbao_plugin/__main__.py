"""The program that the server starts."""

from qkd_kms_adapters.openbao_plugin.engine.engine import SecretsEngine
from qkd_kms_adapters.openbao_plugin.kme_pool import KmePool
from qkd_kms_adapters.openbao_plugin.process.running import main
from qkd_kms_adapters.openbao_plugin.transport.serving import PluginServer
from qkd_kms_adapters.openbao_plugin.version import VERSION

if __name__ == "__main__":
    main(
        lambda place: PluginServer(place, lambda storage: SecretsEngine(storage, KmePool), VERSION)
    )
