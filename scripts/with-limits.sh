#!/bin/sh
# Run a command with the open-files limit raised:  scripts/with-limits.sh COMMAND [ARGUMENT...]
set -eu
. "$(dirname "$0")/lib.sh"
raise_open_files
exec "$@"
