// Package rootfs makes the root file systems of services from images: those of
// container tools, or directories.
//
// A [Store] has one directory for each image that it made, named after its digest,
// which appears when it is whole and ends by being removed:
//
//	DIGEST/root.erofs    the file system
//	DIGEST/image.json    an Image: what the image says of its command, by what names it was asked for
//	DIGEST.new/          one that is being made
//	locks                a file, byte ranges of which are locked; see lock
//
// What the layers of an image hold is verified against its configuration, of which
// the digest is. Images are hostile: each size and number is bounded, and paths
// are followed in a tree in memory, never on the host.
package rootfs
