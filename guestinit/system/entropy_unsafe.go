package system

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxEntropy is the size in bytes of what one call credits.
const maxEntropy = 512

// randPoolInfo is struct rand_pool_info of linux/random.h.
type randPoolInfo struct {
	entropyCount int32 // bits
	bufSize      int32 // bytes
	buf          [maxEntropy]byte
}

// AddEntropy mixes secret random bytes into the kernel's pool and credits them
// in full, by RNDADDENTROPY: "add some entropy to the input pool, incrementing
// the entropy count" (random(4)).
func AddEntropy(p []byte) error {
	f, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for len(p) > 0 {
		var info randPoolInfo
		n := copy(info.buf[:], p)
		p = p[n:]
		info.entropyCount, info.bufSize = int32(n*8), int32(n)
		// SAFETY: the kernel reads two ints and then bufSize bytes, which info
		// has, and keeps no pointer; the conversion is in the call itself.
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info)))
		if errno != 0 {
			return fmt.Errorf("credit entropy: %w", errno)
		}
	}
	return nil
}
