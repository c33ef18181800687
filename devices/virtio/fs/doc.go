// Package fs is the virtio file system device (virtio 1.2 §5.11): a directory of
// the host that a guest mounts with
//
//	mount -t virtiofs TAG /mnt
//
// The guest speaks FUSE (Linux include/uapi/linux/fuse.h, protocol 7.31 and later);
// this package answers in process, with ordinary system calls of the host.
//
// # What the guest cannot do
//
// It cannot leave the directory. Every name in a request is one component: a name
// that is empty, "." or "..", or that holds "/" or NUL is refused. It is opened
// with openat2 under RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS and
// RESOLVE_NO_XDEV relative to a directory that is pinned by an O_PATH descriptor, so
// that the host never follows a link of any kind and never enters another mount;
// links are resolved by the guest's kernel, in the guest's name space. What a number
// of the guest stands for is pinned too: a node is an O_PATH descriptor, so that no
// rename, on whichever side, can put another file in its place.
//
// It cannot make the host open anything but regular files and directories. FIFOs,
// sockets and device nodes have attributes and can be removed, no more. The guest can
// create FIFOs and sockets, which are names only, but not device nodes (EPERM), and
// it cannot change those it finds.
//
// It cannot give a file the set-user-ID bit or, unless it is a directory, the
// set-group-ID bit (EPERM), and a file that has them loses them before the guest
// writes to it. Extended attributes are not served (ENOSYS), those of security
// modules and file capabilities included.
//
// It cannot take more than its share of memory and descriptors: see [Config] for the
// limits, beyond which the guest sees ENFILE.
//
// With [Config].ReadOnly every operation that would change something fails with
// EROFS here, whatever the guest's kernel thinks.
//
// # What remains possible
//
// A directory that somebody on the host moves out of the share while the guest uses
// it stays reachable for the guest until it forgets it. A hard link that somebody on
// the host makes inside the share to a file outside is that file. A symbolic link
// that the guest makes may point anywhere, which matters to host programs that follow
// links in a shared directory. The guest can fill the host's file system.
//
// # Ownership
//
// The device acts as the user of this process: files that the guest creates belong
// to that user, under the process's umask, whoever made them in the guest. The guest
// sees real owners and modes, and its kernel checks permissions with them; its root
// can do what the process's user can. To change an owner is refused with EPERM
// unless [Config].AllowOwner is set.
//
// # Coherence
//
// Several guests may have the same directory. Writes go through to the host at once,
// a file that is opened is read afresh, and by default the guest may not keep names or
// attributes (timeouts of zero), so that what one guest wrote before another one's
// open is seen by it. [Config].CacheFor trades this for fewer requests. Locks are local
// to a guest. Appends (O_APPEND) of several guests to one file do not overwrite each
// other. Inode numbers are the host's st_ino, equal in all guests.
package fs
