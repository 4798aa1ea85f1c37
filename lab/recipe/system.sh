#!/usr/bin/env bash
# The VMs' Debian as an archive, without a kernel:  system.sh RECIPE  makes system.tar in the current folder.
set -euo pipefail
recipe=$1
cannot() { echo "$1" >&2 && exit 77; }

packages=$(grep -v '^#' "$recipe/packages" | paste -sd,)
# Wherever this machine gets Debian from; what others offer it has no place in the VMs.
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016  # apt's own placeholders
apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' |
    sort -u | while read -r uri release; do
    case $release in
        "$codename" | "$codename-security" | "$codename-updates") echo "deb $uri bookworm${release#"$codename"} main" ;;
    esac
done >sources
[ -s sources ] || cannot "apt on this machine names no source of Debian packages"
apt-config dump Acquire | grep -v '^Acquire::IndexTargets' >apt.conf

mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt="$PWD/apt.conf" \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    bookworm system.tar sources || cannot "no Debian 12 could be made from this machine's package sources (see above)"
rm sources apt.conf
