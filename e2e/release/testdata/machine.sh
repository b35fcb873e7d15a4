# machine.sh FOLDER SCRIPT FILE...: runs SCRIPT in a copy of this machine's file system,
# which exists in memory only and in this mount namespace only.
place=$1 script=$2
shift 2
mount -t tmpfs none "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay none -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
mount -t proc none "$place/root/proc"
mount --rbind /dev "$place/root/dev"
mount -t tmpfs none "$place/root/run"
mkdir -p "$place/root/pkg"
cp "$@" "$place/root/pkg/"
cp "$script" "$place/root/pkg/script.sh"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$place/root" sh -eu /pkg/script.sh
