#!/bin/sh
# Runs in dracut's initqueue, again and again, until the root device is there. Once there are the
# disk and a network (by whichever of dracut's network modules), prove this boot to the service and
# open the root disk. That is tried once: the agent waits by itself.
[ -e /run/vouchsafe-unlock ] && return 0
. /etc/vouchsafe/unlock.conf
[ -e "${device:-/none}" ] && [ -n "$(ip -o address show scope global)" ] || return 0
: > /run/vouchsafe-unlock

modprobe -aq dm_crypt qemu_fw_cfg
[ -d /sys/kernel/security/tpm0 ] || mount -t securityfs securityfs /sys/kernel/security
list=
[ "${ima:-no}" != yes ] || list=/sys/kernel/security/ima/binary_runtime_measurements
vouchsafe-agent unlock ${list:+--ima "$list"} --device "$device" --disk "${disk:-root}" --name "${name:-root}" --wait "${wait:-2m}" || {
    # The boot goes on, perhaps to a passphrase: who has that console must not get the key. Before a
    # shell, vouchsafe-lock.sh does the same.
    vouchsafe-agent lock
}
return 0
