#!/usr/bin/env bash
# What a newcomer lives through: in a bare Debian with nothing but make, git and CA certificates, clone weft, then
# run the two commands, as root and as an ordinary user.
#
#   scripts/chroot-test.sh [--targets "demo test"] [--who "user root"] [bookworm] [trixie]
#
# Needs root, a Debian machine and mmdebstrap. What is committed in this checkout is what is tested. The systems are
# made from this machine's own apt sources and reach the package index as this machine does. All of it happens in a
# mount and a process namespace of its own, so no mount and no process is left, however it ends. WEFT_CHROOTS names the
# folder for the systems (default: build/chroot); one system is unpacked at a time, about 1.5 GB with all that it makes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

targets="demo test"
people="user root"
suites=()
while [ $# -gt 0 ]; do
    case $1 in
        --targets) targets=$2 && shift ;;
        --who) people=$2 && shift ;;
        bookworm | trixie) suites+=("$1") ;;
        *) die "chroot-test knows bookworm, trixie, --targets and --who, not '$1'." ;;
    esac
    shift
done
[ ${#suites[@]} -gt 0 ] || suites=(bookworm trixie)
[ "$(id -u)" -eq 0 ] || die "making a Debian system needs root."
has_program mmdebstrap || die "this needs mmdebstrap: $(install_line debian mmdebstrap)"

# From here on, in namespaces of its own: mounts and processes vanish with this script.
if [ -z "${WEFT_IN_NAMESPACE:-}" ]; then
    arguments=(--targets "$targets" --who "$people" "${suites[@]}")
    WEFT_IN_NAMESPACE=1 exec unshare --mount --pid --fork --kill-child --propagation private \
        "scripts/${0##*/}" "${arguments[@]}" </dev/null
fi

limit=90m # for all of one person's commands
work=${WEFT_CHROOTS:-$PWD/build/chroot}
root=$work/system
mkdir -p "$work"
mount -t proc proc /proc # this namespace's, so that only its own processes are seen
trap 'unmount; rm -rf --one-file-system "$root"' EXIT

# Take away whatever is mounted below the system, by this script or by what ran in it; the newest first.
unmount() {
    local point
    tac /proc/self/mounts | while read -r _ point _; do
        point=$(printf '%b' "$point") # a space is written \040
        [[ $point != "$root"/* ]] || umount --lazy "$point"
    done
}

# sources SUITE : apt's lines for a suite, from wherever this machine gets Debian
sources() {
    local codename uri release
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016  # apt's own placeholders
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' |
        sort -u | while read -r uri release; do
        case $release in
            "$codename" | "$codename-security" | "$codename-updates") echo "deb $uri $1${release#"$codename"} main" ;;
        esac
    done
}

# bare_system SUITE : an archive of a fresh minimal Debian, made once
bare_system() {
    local archive=$work/$1.tar
    if [ ! -s "$archive" ]; then
        say "== $1: making a bare system" >&2
        sources "$1" >"$work/sources"
        [ -s "$work/sources" ] || die "apt on this machine names no source of Debian packages."
        apt-config dump Acquire | grep -v '^Acquire::IndexTargets' >"$work/apt.conf"
        mmdebstrap --quiet --variant=minbase --include=make,git,ca-certificates --aptopt="$work/apt.conf" \
            "$1" "$work/new.tar" "$work/sources" >&2
        mv "$work/new.tar" "$archive"
    fi
    echo "$archive"
}

# unpack ARCHIVE : a system to run programs in, with the devices that any real one has
unpack() {
    unmount
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    tar --extract --file "$1" --directory "$root" --exclude='./dev/*'
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    local name numbers
    while read -r name numbers; do
        # shellcheck disable=SC2086  # two numbers
        mknod -m 666 "$root/dev/$name" c $numbers
    done <<<'null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0'
    [ ! -e /dev/fuse ] || mknod -m 666 "$root/dev/fuse" c 10 229
    mkdir -m 1777 "$root/dev/shm"
    mkdir "$root/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -sf ../proc/self/mounts "$root/etc/mtab"
    borrow_the_network
}

# Names, trust and the package index are the machine's: files that everybody here may read.
borrow_the_network() {
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    [ ! -f /etc/pip.conf ] || cp -L /etc/pip.conf "$root/etc/"
    local extra
    for extra in /usr/local/share/ca-certificates/*.crt; do
        [ ! -f "$extra" ] || cp -L "$extra" "$root/usr/local/share/ca-certificates/"
    done
    chroot "$root" update-ca-certificates >/dev/null 2>&1
}

# inside WHO FOLDER COMMAND... : a login with nothing of this machine's environment but its proxies
inside() {
    local who=$1 folder=$2 home=/root
    shift 2
    [ "$who" = root ] || home=/home/$who
    local environment=(HOME="$home" USER="$who" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8)
    [ "$who" != root ] || environment+=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    local name
    for name in http_proxy https_proxy no_proxy; do
        [ -z "${!name:-}" ] || environment+=("$name=${!name}")
    done
    # shellcheck disable=SC2016  # for the inner shell
    timeout --kill-after=30 "$limit" chroot "$root" /usr/bin/env -i "${environment[@]}" \
        /usr/bin/setpriv --reuid "$who" --regid "$who" --init-groups \
        /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@" </dev/null
}

# The folder's name has a space in it: so do people's.
newcomer() {
    local suite=$1 who=$2 account=root home=/root target output line
    say "== $suite, as $who"
    unpack "$(bare_system "$suite")"
    git bundle create --quiet "$root/weft.bundle" HEAD
    chmod 644 "$root/weft.bundle"
    if [ "$who" = user ]; then
        account=newcomer
        home=/home/$account
        chroot "$root" useradd --create-home --shell /bin/sh "$account"
    fi
    inside "$account" "$home" git -c advice.detachedHead=false -c init.defaultBranch=main clone --quiet /weft.bundle "my projects/weft"
    home+="/my projects/weft"

    if [ "$who" = user ]; then # who cannot install anything, must be told what to ask for
        output=$(inside "$account" "$home" make "${targets%% *}" 2>&1) && die "$suite has no Python, and yet make ended well: $output"
        say "$output"
        line=$(sed -n 's/.*brings what is missing: //p' <<<"$output")
        [ -n "$line" ] || die "make did not say what to install."
        inside root / env DEBIAN_FRONTEND=noninteractive sh -c "$line" >"$work/apt.log" 2>&1 || {
            tail -n 20 "$work/apt.log" >&2
            die "the line that make printed does not work: $line"
        }
    fi
    for target in $targets; do
        say "== $suite, as $who: make $target"
        inside "$account" "$home" make --no-print-directory "$target" || die "$suite, as $who: make $target failed."
    done
    say "== $suite, as $who: make ${targets// / and make } did what they say"
}

[ -z "$(git status --porcelain)" ] || say "Note: what is not committed is not tested here"
for suite in "${suites[@]}"; do
    for person in $people; do
        newcomer "$suite" "$person"
    done
done
say "Tested on ${suites[*]}, as ${people// / and as }: $targets"
