"""agentd: a self-hosted voice-agent server, the open implementation of jambonz's `agent` verb."""

import sys
from pathlib import Path

__version__ = "0.1.0"

# In the wheel `providers`, `turn` and `config` live privately beside us (pyproject.toml says why);
# in the repository they are at its top and this folder does not exist.
_packages = Path(__file__).parent / "_packages"
if _packages.is_dir() and str(_packages) not in sys.path:
    sys.path.insert(0, str(_packages))
