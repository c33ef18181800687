package vmm

// Where devices are, for guests that have no driver to find them.
const (
	VirtioBase = virtioBase
	MMIOWindow = mmioWindow
)
