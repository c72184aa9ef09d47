"""Train one model: python train.py model=rot_stn data=rotated_digits trainer=cpu key=value ..."""

from stnrot.jobs.train import command, train

__all__ = ["train"]

if __name__ == "__main__":
    command()
