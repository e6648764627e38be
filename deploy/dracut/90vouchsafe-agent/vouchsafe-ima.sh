#!/bin/sh
# Runs before udev loads the first module: have the kernel measure the modules that it loads into
# PCR 10. The agent sends the list with its proof: vouchsafe policy modules. With ima=yes in unlock.conf.
. /etc/vouchsafe/unlock.conf
[ "${ima:-no}" = yes ] || return 0
[ -d /sys/kernel/security/ima ] || mount -t securityfs securityfs /sys/kernel/security
echo "measure func=MODULE_CHECK" > /sys/kernel/security/ima/policy || echo "vouchsafe-ima: this kernel does not measure modules"
return 0
