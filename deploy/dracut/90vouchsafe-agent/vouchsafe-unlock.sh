#!/bin/sh
# Runs in dracut's initqueue once a network interface is up: prove this boot to the service and
# open the root disk. Once: a second interface changes nothing.
[ -e /run/vouchsafe-unlocked ] && return 0
. /etc/vouchsafe/unlock.conf
[ -n "${device:-}" ] || return 0
: > /run/vouchsafe-unlocked

modprobe -aq dm_crypt qemu_fw_cfg
[ -d /sys/kernel/security/tpm0 ] || mount -t securityfs securityfs /sys/kernel/security
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    [ -e "$device" ] && break
    echo "vouchsafe-agent: waiting for the device $device"
    sleep 1
done
vouchsafe-agent unlock --device "$device" --disk "${disk:-root}" --name "${name:-root}" --wait "${wait:-2m}" || {
    # The boot goes on, perhaps to a shell: who has that console must not get the key.
    vouchsafe-agent lock
}
return 0
