#!/bin/bash
# An export and its attachment by hand, as one would type it: mkdir, echo, ln and `nvme connect`.
#   hand.sh attach NQN DEVICE UUID TRANSPORT ADDRESS QUEUES    prints the block device
#   hand.sh detach NQN
set -euo pipefail
nvmet=/sys/kernel/config/nvmet
nqn=$2
host=$(cat /etc/nvme/hostnqn)

attach() {
    local device=$1 uuid=$2 transport=$3 address=$4 queues=$5 subsystem=$nvmet/subsystems/$nqn port=$nvmet/ports/1 found head
    mkdir "$subsystem"
    echo weft >"$subsystem/attr_model"
    echo "$queues" >"$subsystem/attr_qid_max"
    mkdir "$subsystem/namespaces/1"
    echo -n "$device" >"$subsystem/namespaces/1/device_path"
    echo "$uuid" >"$subsystem/namespaces/1/device_uuid"
    echo "$uuid" >"$subsystem/namespaces/1/device_nguid"
    echo 1 >"$subsystem/namespaces/1/enable"
    mkdir "$nvmet/hosts/$host"
    ln -s "$nvmet/hosts/$host" "$subsystem/allowed_hosts/"
    mkdir "$port"
    echo "$transport" >"$port/addr_trtype"
    echo ipv4 >"$port/addr_adrfam"
    echo "$address" >"$port/addr_traddr"
    echo 4420 >"$port/addr_trsvcid"
    ln -s "$subsystem" "$port/subsystems/"
    nvme connect --transport "$transport" --traddr "$address" --trsvcid 4420 --nqn "$nqn" --nr-io-queues "$queues" \
        --reconnect-delay 1 --ctrl-loss-tmo 3600 --keep-alive-tmo 5 >&2
    for _ in $(seq 1000); do
        for found in /sys/class/nvme-subsystem/*; do
            [ "$(cat "$found/subsysnqn")" = "$nqn" ] || continue
            for head in "$found"/nvme*n*; do
                [ -b "/dev/${head##*/}" ] && echo "/dev/${head##*/}" && return
            done
        done
        sleep 0.01
    done
    echo "no device of $nqn appeared" >&2
    return 1
}

detach() {
    nvme disconnect --nqn "$nqn" >&2
    rm "$nvmet/ports/1/subsystems/$nqn"
    rmdir "$nvmet/ports/1"
    rm "$nvmet/subsystems/$nqn/allowed_hosts/$host"
    rmdir "$nvmet/subsystems/$nqn/namespaces/1" "$nvmet/subsystems/$nqn" "$nvmet/hosts/$host"
}

"$1" "${@:3}"
