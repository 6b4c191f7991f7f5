#!/usr/bin/env bash
# How good is it on cases whose truth is known? The demo archive is analysed and held against its own labels.
# Usage: audit.sh OUT; afterwards open OUT/audit/audit.html
set -eu
out=$1
mammoscan demo "$out/demo"
mammoscan audit "$out/demo/reports" --labels "$out/demo/labels.csv" --out "$out/audit" --threshold 0.5 --sensitivity 0.9
