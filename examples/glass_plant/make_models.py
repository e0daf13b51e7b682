"""Simulate the plant, train both bundled models, judge them and write their packages.

`python -m examples.glass_plant.make_models [--out models] [--only lstm|vit] [--quick] [--work DIR]`
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: do not spin on a shared machine

import torch

from examples.glass_plant.make_image import FULL as FULL_IMAGE
from examples.glass_plant.make_image import QUICK as QUICK_IMAGE
from examples.glass_plant.make_image import make_image
from examples.glass_plant.make_sensor import QUICK as QUICK_SENSOR
from examples.glass_plant.make_sensor import SensorScale, make_sensor

SEED = 1550
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def main() -> None:
    """Parse the command line and make what it asks for."""
    parser = argparse.ArgumentParser(prog="python -m examples.glass_plant.make_models", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder of the model packages")
    parser.add_argument("--only", choices=("lstm", "vit"), help="make one of the two")
    parser.add_argument("--quick", action="store_true", help="tiny data and training, to test the way through")
    parser.add_argument("--work", type=Path, help="keep simulated images here and use them again")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    args = parser.parse_args()
    keep_large_buffers()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # no tensor is read before it is written
    started = time.monotonic()
    if args.only in (None, "lstm"):
        print("lstm_defect_predictor (simulated line)", flush=True)
        make_sensor(args.out, QUICK_SENSOR if args.quick else SensorScale(), SEED)
        print(f"  done after {time.monotonic() - started:.0f} s", flush=True)
    if args.only in (None, "vit"):
        print("vit_defect_detector (simulated pictures)", flush=True)
        make_image(args.out, QUICK_IMAGE if args.quick else FULL_IMAGE, SEED, args.threads, args.work)
        print(f"  done after {time.monotonic() - started:.0f} s", flush=True)
    print(f"models made in {time.monotonic() - started:.0f} s")


def keep_large_buffers() -> None:
    """Let glibc keep freed buffers instead of mapping new ones in every step: a fifth less time in training."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 28)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)


if __name__ == "__main__":
    main()
