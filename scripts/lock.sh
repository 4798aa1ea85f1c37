#!/bin/sh
# Pin requirements/*.txt from pyproject.toml: one file for every Python that weft supports, hashes and no addresses.
#
#   scripts/lock.sh [--upgrade | --upgrade-package NAME]...
#
# Without an argument, only what pyproject.toml asks for changes. uv is used from the PATH, or else installed into a
# throw-away environment.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    .venv/bin/python -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
    uv=$tools/bin/uv
fi

# compile OUTPUT ARGUMENT...    the arguments say of what
compile() {
    output=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock' \
        --output-file "$output" "$@"
}

compile requirements/runtime.txt pyproject.toml "$@"
compile requirements/ansible.txt --group ansible "$@"
compile requirements/dev.txt pyproject.toml --group dev --constraints requirements/runtime.txt "$@"
for version in 3.11 3.12 3.13 3.14; do
    for file in dev ansible; do
        "$uv" pip install --quiet --dry-run --target "${TMPDIR:-/tmp}/weft-lock" --python-version "$version" \
            --only-binary :all: --require-hashes --requirements "requirements/$file.txt" ||
            die "Python $version lacks a wheel for one of the packages that requirements/$file.txt pins."
    done
done
say "Pinned: requirements/runtime.txt, dev.txt and ansible.txt, with a wheel for each of Python 3.11 to 3.14"
