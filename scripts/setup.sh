#!/bin/sh
# Make .venv hold weft and its tools, exactly as requirements/dev.txt pins them.
#
#   scripts/setup.sh [--quiet] [--install-packages]
#
# --quiet             says nothing when there was nothing to do
# --install-packages  as root on Debian or Ubuntu, installs missing system packages instead of only naming them
#
# PYTHON names the interpreter to use; without it the newest one that works is taken.
# Instant when nothing changed. A virtual environment that was moved, copied from elsewhere, broken by an upgrade of
# Python or left half-made by an interrupted run is made anew.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

quiet=
install_packages=
for argument in "$@"; do
    case $argument in
        --quiet) quiet=yes ;;
        --install-packages) install_packages=yes ;;
        *) die "set-up knows only --quiet and --install-packages, not '$argument'." ;;
    esac
done

venv=.venv
stamp=$venv/weft-stamp

# What the environment depends on; the folder it stands in too, because it cannot be moved.
fingerprint() {
    {
        pwd -P
        cat requirements/dev.txt
        sed -n '/^\[build-system\]/,/^\[tool\./p' pyproject.toml
    } | sha256sum | cut -d ' ' -f 1
}

is_ready() {
    [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] &&
        "$venv/bin/python" -I -c 'import pip, pytest, weft' >/dev/null 2>&1 </dev/null
}

say_ready() { say "Ready: $("$venv/bin/python" -V) in $venv"; }

missing_tools() {
    has_program fusermount3 || echo fuse
    { has_program mke2fs && has_program debugfs && has_program e2fsck; } || echo e2fsprogs
}

may_install() {
    [ -n "$install_packages" ] && [ "$(id -u)" -eq 0 ] && [ "$family" = debian ] && has_program apt-get
}

# Run an install line as it is printed; false when it may not be run here or does not work.
run_install_line() {
    may_install || return 1
    say "Installing what is missing: $1"
    DEBIAN_FRONTEND=noninteractive sh -c "$1" >"$log" 2>&1 </dev/null && return
    tail -n 10 "$log" >&2
    complain "that did not work; what it said last is above."
    return 1
}

# The tests and the demo use these where they are; nothing fails without them.
look_for_tools() {
    missing=$(missing_tools)
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # words, one argument each
    line=$(install_line "$family" $missing)
    run_install_line "$line" || say "Note: weft goes on without some tools; this line, as root, brings them: $line"
}

# Make the environment with the first Python that really can: Debian's has venv, but not all of it, without python3-venv.
make_venv() {
    : >"$log"
    while IFS= read -r python; do
        [ -n "$python" ] || continue
        remove_venv
        "$python" -I -m venv "$venv" >>"$log" 2>&1 </dev/null &&
            "$venv/bin/python" -I -m pip --version >>"$log" 2>&1 </dev/null && return
    done <<EOF
$(if [ -n "${PYTHON:-}" ]; then command -v "$PYTHON"; else find_pythons; fi)
EOF
    remove_venv
    return 1
}

remove_venv() {
    rm -rf "$venv" 2>/dev/null || die "$PWD/$venv belongs to another user: remove it as that user or as root, and try again."
}

# An environment whose Python is good enough, or the one line that a person needs to get there.
make_venv_or_explain() {
    if [ -n "${PYTHON:-}" ]; then
        is_good_python "$(command -v "$PYTHON")" || die "PYTHON=$PYTHON is not a Python 3.11 or newer that you may run."
    fi
    make_venv && return
    # shellcheck disable=SC2046  # words, one argument each
    line=$(install_line "$family" python $(missing_tools))
    run_install_line "$line" && make_venv && return
    tail -n 5 "$log" >&2
    die "weft needs Python 3.11 or newer with venv. This line, as root, brings what is missing: $line"
}

pip_install() {
    "$venv/bin/python" -I -m pip install --quiet --no-user --disable-pip-version-check "$@" >"$log" 2>&1 </dev/null && return
    tail -n 20 "$log" >&2
    die "pip could not fill $venv; what it said last is above (pip config list shows which index it asks)."
}

# Two set-ups at once would write into one folder: the second waits for the first, then finds its work done.
wait_for_other_setups() {
    exec 9<scripts/setup.sh
    has_program flock || return 0
    flock -n 9 && return
    say "Another set-up runs in this checkout; waiting for it"
    flock -w 900 9 || die "the other set-up did not end within 15 minutes."
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM HUP
family=$(system_family)

if ! is_ready; then
    [ -w . ] || die "you cannot write to $PWD, where the environment goes: clone weft into a folder of your own and run make there."
    wait_for_other_setups
fi
if is_ready; then
    [ -n "$quiet" ] || say_ready
    [ -z "$install_packages" ] || look_for_tools
    exit
fi
make_venv_or_explain
say "Setting up $venv with $("$venv/bin/python" -V)"
pip_install --require-hashes --requirement requirements/dev.txt
pip_install --no-deps --no-build-isolation --editable .
fingerprint >"$stamp"
is_ready || die "$venv is filled, and yet weft does not start from it; this says why: $venv/bin/python -I -c 'import weft'"
look_for_tools
say_ready
