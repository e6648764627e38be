#!/bin/bash
# /usr/lib/dracut/modules.d/90vouchsafe-agent/module-setup.sh: put vouchsafe-agent into the
# initramfs, with what it is given and what it needs to open the root disk. The kernel's command
# line says that there is a network: rd.neednet=1 ip=dhcp.

check() {
    require_binaries "${VOUCHSAFE_AGENT:-/usr/bin/vouchsafe-agent}" cryptsetup || return 1
    [[ -e ${VOUCHSAFE_GIVEN:-/etc/vouchsafe}/unlock.conf ]] || return 255
    return 0
}

depends() {
    echo dm network
    return 0
}

installkernel() {
    # shellcheck disable=SC2154
    hostonly='' instmods dm_crypt xts aesni_intel virtio_pci virtio_blk virtio_scsi virtio_net qemu_fw_cfg tpm_tis tpm_crb
}

install() {
    local given=${VOUCHSAFE_GIVEN:-/etc/vouchsafe} file
    inst_binary "${VOUCHSAFE_AGENT:-/usr/bin/vouchsafe-agent}" /usr/bin/vouchsafe-agent
    inst_multiple cryptsetup ip
    # Nothing of these is needed where QEMU hands them over by fw_cfg. With key.pem in it the image
    # is as secret as the key; dracut writes images with mode 0600.
    for file in unlock.conf url ca.pem cert.pem key.pem; do
        [[ ! -e $given/$file ]] || inst_simple "$given/$file" "/etc/vouchsafe/$file"
    done
    # shellcheck disable=SC2154
    inst_hook initqueue/settled 60 "$moddir/vouchsafe-unlock.sh"
    inst_hook pre-udev 00 "$moddir/vouchsafe-ima.sh"
    inst_hook emergency 00 "$moddir/vouchsafe-lock.sh"
    dracut_need_initqueue
}
