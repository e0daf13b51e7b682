"""Which file system a path lies on; one of another machine keeps neither SQLite's locks nor its shared memory."""

from __future__ import annotations

from pathlib import Path

import psutil

# As the kernel names them. 9p and virtiofs are left out: a virtual machine may have its own disk by them.
NETWORK_TYPES = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "wekafs"}
)
NETWORK_FUSE = frozenset(
    {"blobfuse", "blobfuse2", "ceph", "cephfs", "curlftpfs", "davfs2", "gcsfuse", "geesefs", "glusterfs", "goofys"}
    | {"juicefs", "JuiceFS", "mfs", "mount-s3", "rclone", "s3fs", "seaweedfs", "sshfs"}
)


def file_system_type(path: Path) -> str:
    """The type of the file system that holds `path`, which need not exist yet; "" where nothing says so."""
    place = path.resolve()
    depth, found = -1, ""
    for mount in psutil.disk_partitions(all=True):
        parts = len(Path(mount.mountpoint).parts)
        # Of two mounts at one place the later one hides the earlier one.
        if parts >= depth and place.is_relative_to(mount.mountpoint):
            depth, found = parts, mount.fstype
    return found


def network_file_system(path: Path) -> str | None:
    """The type of the file system that holds `path`, if that is one of another machine; else None."""
    kind = file_system_type(path)
    return kind if kind in NETWORK_TYPES or kind.removeprefix("fuse.") in NETWORK_FUSE else None
