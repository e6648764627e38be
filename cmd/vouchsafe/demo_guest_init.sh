#!/bin/busybox sh
# /init in the guest of `vouchsafe demo --guest`. The console (ttyS0) is for a person; what
# the demo must know goes to ttyS1 as well, in lines that begin with "guest:".
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin /etc /tmp
/bin/busybox --install -s /bin
export PATH=/bin
set -o pipefail

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=0700 run /run
mount -t securityfs security /sys/kernel/security
stty -F /dev/ttyS1 raw
echo >/dev/ttyS1 # the firmware leaves half a line there

report() { echo "guest: $*" >/dev/ttyS1; }
# tell runs a program; its words go to both ports.
tell() { "$@" 2>&1 | tee /dev/ttyS1; }
# off ends this boot. A boot that goes on without its disk must lock it first: see `vouchsafe-agent lock`.
off() { umount /root 2>/dev/null; cryptsetup close root 2>/dev/null; sync; report "$*"; poweroff -f; sleep 60; }
task() { cat "/sys/firmware/qemu_fw_cfg/by_name/opt/org.vouchsafe.demo/$1/raw" 2>/dev/null; }

for module in $(cat /modules.order); do insmod "$module" || report "FAILED insmod $module"; done
# QEMU's user-mode network: 10.0.2.2 is the host's loopback.
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
report "up $(uname -r) log $(base64 -w0 /sys/kernel/security/tpm0/binary_bios_measurements)"

# The first boot enrols before it opens anything: it waits here until somebody approves it.
if [ "$(task name)" = first ]; then
	mkdir -p /run/vouchsafe
	tell vouchsafe-agent enroll --credential /run/vouchsafe --evidence /run/evidence || off shut
	report "certificate $(base64 -w0 /run/vouchsafe/identity.pem)"
	report "evidence $(base64 -w0 /run/evidence)"
	format=--format
fi
tell vouchsafe-agent unlock --device /dev/vda $format || {
	[ -e /dev/mapper/root ] && report "FAILED refused, and open"
	tell vouchsafe-agent lock
	off shut
}
report "open $(cat /sys/block/dm-0/dm/name /sys/block/dm-0/dm/uuid | tr "\n" " ")"

if [ "$(task name)" = first ]; then
	mke2fs -q /dev/mapper/root >/run/mke2fs 2>&1 || off "FAILED mke2fs"
fi
mount /dev/mapper/root /root || off "FAILED mount"
if [ "$(task name)" = first ]; then
	task letter >/root/letter
	mkdir -p /root/etc/vouchsafe
	cp /run/vouchsafe/identity.pem /root/etc/vouchsafe/
	report written
fi
report "letter $(cat /root/letter)"
if [ "$(task name)" = again ]; then
	# The identity speaks for itself: its certificate is on the disk, its key in the TPM.
	tell vouchsafe-agent renew --now --credential /root/etc/vouchsafe || off "FAILED renew"
	report "certificate $(base64 -w0 /root/etc/vouchsafe/identity.pem)"
	tell vouchsafe-agent status --credential /root/etc/vouchsafe
	# Once a boot: the disk was opened, so nobody gets its key again until the next boot.
	tell vouchsafe-agent unlock --device /dev/vda --name twice --wait 10s && report "FAILED opened twice"
	report twice
fi
off done
