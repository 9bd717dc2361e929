"""Train one network, or with -m a sweep: python train.py -m act=relu,elu,swish seed=0,1,2"""

import sys

import hydra
from omegaconf import DictConfig

from actsweep.config import resolve
from actsweep.launch import entry

resolve.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> object:
    """Hydra's task."""
    return entry.run(cfg)


if __name__ == "__main__":
    sys.exit(entry.guard(main))
