#!/usr/bin/env bash
# Nightly run over an incoming folder, for cron. Says nothing when all went well.
# Usage: nightly.sh INCOMING RESULTS
set -u
incoming=$1 results=$2
mammoscan run "$incoming" --out "$results" --quiet --log-file "$results.log"
status=$?
case $status in
  0) ;;                                                  # all analysed
  1) echo "some files failed:"; grep ',failed,' "$results/files.csv" ;;
  3) echo "nothing could be analysed below $incoming" ;;
  4) echo "yesterday's run is still going" ;;
  *) echo "mammoscan ended with status $status, see $results.log" ;;
esac
exit $status
