#!/bin/sh
# The Ansible collection's own tools, in .venv-ansible exactly as requirements/ansible.txt pins them.
#
#   scripts/ansible.sh setup      make the environment; instant when it is there
#   scripts/ansible.sh lint       ansible-lint, by the rules for production
#   scripts/ansible.sh sanity     ansible-test sanity, but for what is about PowerShell and shell scripts
#   scripts/ansible.sh build      the collection's archive, into dist/
#
# Nothing is fetched but Python packages: ansible-lint works offline, and the script by which ansible-test would
# have pip from elsewhere is written here. Their homes are in the environment, so nobody's ~/.ansible is used.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

root=$PWD
venv=$root/.venv-ansible
stamp=$venv/weft-stamp
collection=ansible_collections/weft/storage

fingerprint() { { pwd -P && cat requirements/ansible.txt; } | sha256sum | cut -d ' ' -f 1; }

is_ready() {
    [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] &&
        "$venv/bin/ansible" --version >/dev/null 2>&1 </dev/null
}

set_up() {
    ! is_ready || return 0
    scripts/setup.sh --quiet
    say "Setting up $venv"
    rm -rf "$venv"
    .venv/bin/python -I -m venv "$venv"
    "$venv/bin/python" -I -m pip install --quiet --quiet --no-user --disable-pip-version-check --require-hashes \
        --requirement requirements/ansible.txt
    fingerprint >"$stamp"
}

# Run a program of the environment with a home of its own, beside which ansible finds its collections.
in_environment() {
    program=$1
    shift
    env HOME="$venv/home" PATH="$venv/bin:$PATH" ANSIBLE_HOME="$venv/home/.ansible" ANSIBLE_NOCOLOR=1 NO_COLOR=1 \
        ANSIBLE_COLLECTIONS_PATH="$root" LC_ALL=C.UTF-8 "$venv/bin/$program" "$@"
}

# In the place of get-pip.py: its arguments are pip's own for `install`, and one of get-pip's.
write_pip_bootstrap() {
    version=$("$venv/bin/python" -c 'from ansible_test._internal.python_requirements import get_venv_packages
from types import SimpleNamespace
import sys
print(get_venv_packages(SimpleNamespace(version="%d.%d" % sys.version_info[:2]))["pip"])')
    cache=$venv/home/.ansible/test/cache
    mkdir -p "$cache"
    cat >"$cache/get_pip_$(echo "$version" | tr . _).py" <<'PYTHON'
import runpy
import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
sys.argv[1:] = ["install", *(each for each in sys.argv[1:] if each not in {"--no-setuptools", "--no-wheel"})]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
PYTHON
}

# ansible-test has pip see neither this user's settings nor its variables; the index to ask is among them.
write_pip_settings() {
    mkdir -p "$venv/home/.config/pip"
    {
        echo '[global]'
        "$venv/bin/python" -m pip config list | sed -n "s/^[^.]*\.\([a-z-]*\)='\(.*\)'$/\1 = \2/p" |
            awk '{ last[$1] = $0 } END { for (each in last) print last[each] }'
    } >"$venv/home/.config/pip/pip.conf"
}

# ansible-test looks at all that lies in its folder, and writes there: it gets a copy.
sanity() {
    write_pip_bootstrap
    write_pip_settings
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -p "$copy/ansible_collections/weft"
    cp -R "$collection" "$copy/ansible_collections/weft/"
    find "$copy" -name __pycache__ -prune -exec rm -rf {} +
    cd "$copy/$collection"
    in_environment ansible-test sanity --python "$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
        --requirements --color no --skip-test pslint --skip-test shellcheck "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    setup) set_up ;;
    lint)
        set_up
        mkdir -p "$venv/home"
        (cd "$collection" && in_environment ansible-lint --offline --profile production "$@")
        ;;
    sanity)
        set_up
        sanity "$@"
        ;;
    build)
        set_up
        in_environment ansible-galaxy collection build "$collection" --output-path dist --force
        ;;
    *) die "scripts/ansible.sh knows setup, lint, sanity and build, not '$command'." ;;
esac
