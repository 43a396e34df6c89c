#!/usr/bin/env bash
# A board without a board: Debian's userland for 64-bit ARM, emulated. The cross-built wheel is installed in it as a user would, offline in
# a virtual environment, and must pass tests/arm/core.sh on every core. As root, on Debian.
#
#   tests/arm/userland.sh [--cpu cortex-a53,cortex-a72,cortex-a76,max] [--engines] [--root FOLDER]
#
# --root keeps Debian in that folder, and takes it from there the next time: configuring its packages is what takes longest.
# --engines also installs ONNX Runtime and LiteRT, converts the embedded model for LiteRT there, and has both translate on A72 and max: an
# engine that cannot must have been named by doctor, with a reason.
set -euo pipefail
script=$(realpath "$0")
cpus=cortex-a53,cortex-a72,cortex-a76,max extras= root=
arguments=("$@")
while [ $# -gt 0 ]; do
    case $1 in
        --cpu) cpus=${2:?a list of cores}; shift 2 ;;
        --root) root=$(realpath -m "${2:?a folder}"); shift 2 ;;
        --engines) extras='[onnx,litert,convert]'; shift ;;
        *) sed -n 's/^#   *//p' "$script"; exit 2 ;;
    esac
done
[ -n "${EDGESLM_OWN_MOUNTS:-}" ] || EDGESLM_OWN_MOUNTS=1 exec unshare --mount "$script" "${arguments[@]}"
cd "$(dirname "$script")/../.."
work=$(mktemp -d)
root=${root:-$work/root}
format=edgeslm-$$ # of binaries, in the kernel
binfmt=/proc/sys/fs/binfmt_misc
clean() {
    set +e # as much as can be
    mountpoint -q "$binfmt" || mount -t binfmt_misc binfmt_misc "$binfmt"
    [ ! -e "$binfmt/$format" ] || echo -1 >"$binfmt/$format"
    for mounted in "$root"/{proc,sys}; do
        [ -L "$mounted" ] || ! mountpoint -q "$mounted" || umount "$mounted" # debootstrap's first stage links /proc to the one out here
    done
    rm -rf --one-file-system "$work"
}
trap clean EXIT
step() { printf '%5ss  %s\n' "$SECONDS" "$1"; }
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }; }

step "tools from Debian"
for tool in debootstrap qemu-aarch64-static proot; do
    command -v "$tool" >/dev/null && continue
    quietly apt-get update -q
    quietly apt-get install -qy --no-install-recommends debootstrap qemu-user-static proot
done
qemu=$(command -v qemu-aarch64-static)

step "the wheel, cross-built"
tests/arm/wheel.sh "$work"

step "Debian's userland for ARM"
[ -e "$root/complete" ] || quietly debootstrap --foreign --arch=arm64 --variant=minbase \
    --include=python3-minimal,python3-venv,libstdc++6,ca-certificates bookworm "$root"
rm -rf --one-file-system "$root"/{tree,venv,wheelhouse,litert}
mv "$work/tree" "$root/tree"
# The kernel runs its programs where it can be told how (F: by the emulator out here), else proot does.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
mountpoint -q "$binfmt" || mount -t binfmt_misc binfmt_misc "$binfmt" || true
if printf ':%s:M::%s:%s:%s:F' "$format" "$magic" "$mask" "$qemu" 2>/dev/null >"$binfmt/register"; then
    enter=(chroot "$root")
else
    enter=(proot -0 -q "$qemu" -r "$root" -b /proc -b /dev -w /)
fi
enter+=(/usr/bin/env -i HOME=/root PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1)
[ -e "$root/complete" ] || quietly "${enter[@]}" /debootstrap/debootstrap --second-stage
touch "$root/complete"
if [ "${enter[0]}" = chroot ]; then
    mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
    # LiteRT asks /sys for the processors. This machine's own, whose caches are no ARM core's, make it crash.
    mountpoint -q "$root/sys" || mount -t tmpfs tmpfs "$root/sys"
    mkdir -p "$root/sys/devices/system/cpu"
    echo 0 | tee "$root"/sys/devices/system/cpu/{possible,present} >/dev/null
fi
"${enter[@]}" sh -c '. /etc/os-release; echo "$PRETTY_NAME, $(uname -m), $(python3 --version)"'

step "what the wheel needs, downloaded; installed there without a network"
version=$("${enter[@]}" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
quietly pip download -q -d "$root/wheelhouse" --python-version "$version" --only-binary=:all: --platform linux_aarch64 \
    --platform manylinux2014_aarch64 $(printf -- '--platform manylinux_2_%s_aarch64 ' {17..36}) "$(echo "$work"/dist/*.whl)$extras" pytest
quietly "${enter[@]}" python3 -m venv /venv
quietly "${enter[@]}" pip install -q --no-compile --no-index --find-links /wheelhouse "edgeslm$extras" pytest
models=$("${enter[@]}" python -c 'import edgeslm; print(edgeslm.__path__[0] + "/models")')

# on CORE COMMAND...: there, in the tree, on that core.
on() { local core=$1; shift; "${enter[@]}" "QEMU_CPU=$core" sh -c 'cd /tree && exec "$@"' there "$@"; }
IFS=, read -ra cores <<<"$cpus"
for core in "${cores[@]}"; do
    case $core in
        cortex-a53 | cortex-a72) isa=neon kernels=neon ;;
        cortex-a76) isa=dotprod kernels=dotprod ;;
        max) isa=i8mm kernels="i8mm or ref" ;;
        *) echo "$core: expected cortex-a53, cortex-a72, cortex-a76 or max" >&2; exit 2 ;;
    esac
    step "$core"
    page=4096
    [ "$core" != cortex-a76 ] || page=16384 # as Raspberry Pi 5 has them
    export QEMU_CPU=$core QEMU_PAGESIZE=$page
    "$root/tree/tests/arm/core.sh" "$isa" "$kernels" "$models/everyday-int4" "${enter[@]}" "QEMU_CPU=$core" "QEMU_PAGESIZE=$page" \
        sh -c 'cd /tree && exec python "$@"' there
done

if [ -n "$extras" ]; then
    step "the embedded model, converted for LiteRT there"
    on max edgeslm convert "$models/everyday" /litert --to litert
    for core in cortex-a72 cortex-a76; do
        reasons=$(on "$core" edgeslm doctor --timeout 900 --json)
        for engine in onnxruntime litert; do
            bundle=$models/everyday-int4
            [ "$engine" = onnxruntime ] || bundle=/litert
            if said=$(on "$core" edgeslm run --engine "$engine" "$bundle" '<s><2de> I need new shoes.<sep>' 2>&1); then
                step "$core, $engine: $said"
                [[ $said == *"Ich brauche neue Schuhe."* ]]
            else
                step "$core, $engine failed: ${said: -300}"
                reason=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["engines"][sys.argv[2]]["reason"])' \
                    "$reasons" "$engine")
                step "$core, $engine, says doctor: ${reason:-it works}"
                [ -n "$reason" ]
            fi
        done
    done
fi
step "done"
