# shellcheck shell=sh
# shellcheck disable=SC2030,SC2031  # one function extends PATH in its own subshell, and only there
# What the other scripts share. Sourced, never run.

say() { printf '%s\n' "$*"; }
complain() { printf 'weft: %s\n' "$*" >&2; }
die() {
    complain "$@"
    exit 1
}

# True when this program is installed; e2fsprogs lives in sbin, which an ordinary user's PATH lacks.
has_program() {
    (PATH="$PATH:/usr/sbin:/sbin" && command -v "$1" >/dev/null)
}

# Print every Python >= 3.11 on the PATH that this user may run, newest name first. A pyenv shim that only says
# "not installed", or an interpreter in somebody else's home, is on the PATH and yet does not run: each one is tried.
find_pythons() {
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        printf '%s\n' "$PATH:/usr/bin:/usr/local/bin" | tr ':' '\n' | while IFS= read -r folder; do
            if is_good_python "$folder/$name"; then printf '%s\n' "$folder/$name"; fi
        done
    done
}

is_good_python() {
    [ -f "$1" ] && [ -x "$1" ] &&
        "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null
}

# Print this system's family of packages: debian, redhat, suse, arch, alpine or unknown.
#   system_family [OS-RELEASE-FILE]
system_family() {
    for id in $(sed -n 's/^ID=//p; s/^ID_LIKE=//p' "${1:-/etc/os-release}" 2>/dev/null | tr -d "\"'"); do
        case $id in
            debian | ubuntu) echo debian && return ;;
            fedora | rhel | centos) echo redhat && return ;;
            suse | opensuse*) echo suse && return ;;
            arch | alpine) echo "$id" && return ;;
        esac
    done
    echo unknown
}

# Print the one line that installs what is missing.
#   install_line FAMILY WORD...    a word is one of: python fuse e2fsprogs
install_line() {
    family=$1
    shift
    packages=
    for word in "$@"; do
        case $family:$word in
            debian:python) package=python3-venv ;;
            redhat:python) package=python3.12 ;;
            suse:python) package=python312 ;;
            arch:python) package=python ;;
            *:python) package=python3 ;;
            *:fuse) package=fuse3 ;;
            *) package=$word ;;
        esac
        packages="$packages $package"
    done
    case $family in
        debian) echo "apt-get update && apt-get install --yes --no-install-recommends$packages" ;;
        redhat) echo "dnf install --assumeyes$packages" ;;
        suse) echo "zypper --non-interactive install$packages" ;;
        arch) echo "pacman --sync --noconfirm$packages" ;;
        alpine) echo "apk add$packages" ;;
        *) echo "install with this system's package manager:$packages" ;;
    esac
}

# Raise the soft limit of open files as far as weft and its tests can use it: a target holds a file for each volume
# and for each connection, and the tests open many of both.
# shellcheck disable=SC3045  # beyond POSIX, but dash, bash and busybox all have ulimit -n with -S and -H
raise_open_files() {
    wanted=16384
    enough=2048
    soft=$(ulimit -S -n)
    hard=$(ulimit -H -n)
    [ "$soft" != unlimited ] && [ "$soft" -lt "$wanted" ] || return 0
    if [ "$hard" = unlimited ] || [ "$hard" -ge "$wanted" ]; then
        ulimit -S -n "$wanted"
        return
    fi
    ulimit -S -n "$hard"
    [ "$hard" -ge "$enough" ] ||
        complain "this user may open only $hard files at once and weft wants $enough; raise nofile in /etc/security/limits.conf."
}
