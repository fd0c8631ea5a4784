"""The YAML files that can be chosen: those of ``conf/`` and of ``PLUGIN/conf/``."""

from importlib import resources
from pathlib import Path

import hydra
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from ctrlrec.config.choices import plugin_folders
from ctrlrec.errors import CtrlRecError


def conf_directory() -> Path:
    """Return the folder of YAML choices: inside the installed package, or beside it in a checkout."""
    packaged = Path(str(resources.files("ctrlrec"))) / "conf"
    return packaged if packaged.is_dir() else packaged.parents[1] / "conf"


def plugin_conf_folders() -> list[Path]:
    """Return the folder ``conf`` of each plug-in that has one.

    Raises:
        CtrlRecError: for a plug-in folder that does not exist.
    """
    return [folder / "conf" for folder in plugin_folders() if (folder / "conf").is_dir()]


def choices_of(group: str) -> dict[str, Path]:
    """Return the file of each choice of a group, those of plug-ins last.

    Args:
        group: such as ``variant``.

    Raises:
        CtrlRecError: if two files have one name, because Hydra would read the first and ignore the other.
    """
    files: dict[str, Path] = {}
    for folder in (conf_directory(), *plugin_conf_folders()):
        for path in sorted((folder / group).glob("*.yaml")):
            if path.stem in files:
                raise CtrlRecError(f"{path}: {files[path.stem]} has the same name; rename one of them")
            files[path.stem] = path
    return files


def composed(name: str, *overrides: str) -> DictConfig:
    """Compose ``config`` or one file alone, such as ``variant/full``, with the files that it builds on.

    Args:
        name: path below ``conf/`` without its suffix.
        overrides: words of the command line.

    Raises:
        HydraException: for a file or a choice that does not exist.
    """
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        return hydra.compose(name, list(overrides))


class PluginConf(SearchPathPlugin):
    """Makes Hydra find the choices of plug-ins, on the command line and in :func:`composed` alike."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add ``PLUGIN/conf`` of every plug-in after our own folder."""
        for folder in plugin_conf_folders():
            search_path.append("ctrlrec-plugin", str(folder.resolve()))


Plugins.instance().register(PluginConf)
