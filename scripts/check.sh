#!/bin/sh
# What can be said about the code without running it. Every check runs, then the first failure decides.
set -u
cd "$(dirname "$0")/.." || exit

failed=
run() {
    name=$1
    shift
    output=$("$@" 2>&1 </dev/null) && return
    printf '%s\n\nweft: %s found the above.\n' "$output" "$name" >&2
    failed=yes
}

run "ruff format (make format mends it)" .venv/bin/python -m ruff format --quiet --diff .
run "ruff" .venv/bin/python -m ruff check --quiet .
run "mypy" .venv/bin/python -m mypy --no-error-summary
run "import-linter" .venv/bin/lint-imports

[ -z "$failed" ] || exit 1
echo "check: formatting, lint, types and import floors hold"
