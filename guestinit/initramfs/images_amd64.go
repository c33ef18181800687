package initramfs

import "embed"

// images is what was built for this architecture, besides a note that is always there.
//
//go:embed images/amd64*
var images embed.FS
