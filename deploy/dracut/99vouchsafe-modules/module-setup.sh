#!/bin/bash
# /usr/lib/dracut/modules.d/99vouchsafe-modules/module-setup.sh: verify the
# modules staged for the initramfs, and fail the build with the list of those
# the kernel would refuse or taint itself for. 99, because it must come last.

check() {
    [[ -x /usr/lib/vouchsafe/check-modules ]] || return 1
    return 0
}

depends() {
    return 0
}

install() {
    return 0
}

# Only installkernel's failure ends dracut.
installkernel() {
    local dir="$initdir/lib/modules/$kernel" names=() files=() d f
    # dracut stages these after the last module: they are looked at where they are.
    # shellcheck disable=SC2154
    for d in $drivers $add_drivers $force_drivers; do
        [[ $d == */* || $d == =* ]] && continue
        f=$(modinfo -k "$kernel" -n "$d" 2> /dev/null) && [[ -f $f ]] && files+=("$f")
    done
    [[ -d $dir ]] && [[ -n $(find "$dir" -name '*.ko*' -type f -print -quit) ]] && names+=("$dir")
    ((${#names[@]} + ${#files[@]})) || return 0
    /usr/lib/vouchsafe/check-modules "${names[@]}" "${files[@]}"
}
