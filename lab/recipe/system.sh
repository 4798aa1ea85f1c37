#!/usr/bin/env bash
# The VMs' Debian as an archive, without a kernel:  system.sh RECIPE CODENAME  makes system.tar in the current folder.
set -euo pipefail
recipe=$1 codename=$2
cannot() { echo "$1" >&2 && exit 77; }

packages=$(grep -v '^#' "$recipe/packages" | paste -sd,)
# Wherever this machine gets Debian from; what others offer it has no place in the VMs.
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016  # apt's own placeholders
apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' |
    sort -u | while read -r uri release; do
    case $release in
        "$own" | "$own-security" | "$own-updates") echo "deb $uri $codename${release#"$own"} main" ;;
    esac
done >sources
[ -s sources ] || cannot "apt on this machine names no source of Debian packages"
apt-config dump Acquire | grep -v '^Acquire::IndexTargets' >apt.conf

mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt="$PWD/apt.conf" \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    "$codename" system.tar sources || cannot "no Debian $codename could be made from this machine's package sources (see above)"
rm sources apt.conf
