package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// deviceTimeout is how long the kernel may take to make a device that the machine has:
// it looks for some of them in the background.
const deviceTimeout = time.Minute

// SetReadOnly has the kernel refuse writes to a block device, as in "pmem0", that it
// has or is about to find.
func SetReadOnly(device string) error {
	f, err := openDevice(device)
	if err == nil {
		err = errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 1), f.Close())
	}
	if err != nil {
		return fmt.Errorf("make %s read-only: %w", device, err)
	}
	return nil
}

// openDevice opens a block device that the kernel has or is about to find.
func openDevice(device string) (*os.File, error) {
	for deadline := time.Now().Add(deviceTimeout); ; time.Sleep(5 * time.Millisecond) {
		f, err := os.Open(filepath.Join("/dev", device))
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			return f, err
		}
	}
}
