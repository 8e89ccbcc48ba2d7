#!/usr/bin/env bash
# Makes the two demo models from nothing: synthetic chests, small grids first, then full size.
# Run again, it goes on where it was interrupted.
#
#     training/demo_models.sh WORK
set -euo pipefail
mkdir -p "${1:?name a folder to work in}"
cd "$1"

# One step: the name of its run folder, then what `ctedge train` is told.
step() {
    local run=$1
    shift
    if [ -d "$run" ]; then
        ctedge train "$@" -o "$run" --mixed-precision --resume
    else
        ctedge train "$@" -o "$run" --mixed-precision
    fi
}

ctedge train phantoms half --count 1200 --seed 11 --scores half --shape 128x128x64
ctedge train phantoms uniform --count 1000 --seed 12 --scores uniform --shape 128x128x64

step c1 classifier half --grid 64x64x46 --epochs 14 --learning-rate 0.001 --seed 1
step c2 classifier half --grid 94x94x46 --epochs 6 --learning-rate 0.0005 --seed 2 --start-from c1
step c3 classifier half --epochs 4 --learning-rate 0.0003 --seed 3 --start-from c2

step s1 severity uniform --grid 46x64x64 --epochs 10 --learning-rate 0.001 --seed 4
step s2 severity uniform --grid 46x94x94 --epochs 6 --learning-rate 0.0005 --seed 5 --start-from s1
step s3 severity uniform --epochs 4 --learning-rate 0.0003 --seed 6 --start-from s2
step s4 severity uniform --preset finish --seed 8 --start-from s3

step shuffled classifier half --grid 46x46x46 --epochs 4 --shuffle-labels --seed 7
