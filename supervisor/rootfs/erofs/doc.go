// Package erofs writes read-only file systems of the format EROFS.
//
// Nothing is compressed, so that a guest that has the file as memory reads and
// maps its files where they are. The same tree gives the same bytes. An image is
// laid out as
//
//	superblock, at 1024
//	inodes, the root's first, each with its attributes and, when that is short, its content
//	blocks of all other content, in the order of the inodes
//
// The format is that of the kernel's fs/erofs/erofs_fs.h.
package erofs

import "io"

// BlockSize is the unit of an image, in bytes. It is the page size of the guests'
// kernels: what is mapped directly has to be.
const BlockSize = 4096

// A Node is a file of any kind. One that is found under several names is one
// file with several links; a directory has one name.
type Node struct {
	Mode     uint32 // the file's type and permissions, as in st_mode
	UID, GID uint32
	// Mtime is when it was changed, in seconds since 1970.
	Mtime uint64
	// Major and Minor are the numbers of a device.
	Major, Minor uint32
	// Size is what a regular file holds, in bytes, and Open opens it; it may be nil
	// without any.
	Size int64
	Open func() (io.ReadCloser, error)
	// Target is where a symbolic link leads.
	Target string
	// Xattrs are its extended attributes by their whole names.
	Xattrs map[string]string
	// Children are what a directory holds, by name.
	Children map[string]*Node
}

// The types in a Node's mode, inode(7).
const (
	TypeMask    = 0o170000
	TypeSocket  = 0o140000
	TypeSymlink = 0o120000
	TypeRegular = 0o100000
	TypeBlock   = 0o060000
	TypeDir     = 0o040000
	TypeChar    = 0o020000
	TypeFIFO    = 0o010000
)

// Limits of the format, and of what the kernel takes.
const (
	MaxName   = 255
	MaxTarget = 4095 // PATH_MAX without its end
	maxBlocks = 1 << 32
	maxXattrs = 64 << 10 // bytes of one file's, XATTR_LIST_MAX
)

// IsDir tells whether it is a directory.
func (n *Node) IsDir() bool { return n.Mode&TypeMask == TypeDir }
