package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// errLocked is for what another holds.
var errLocked = errors.New("locked")

// lock is held by one at a time of all processes and goroutines with this store,
// for what it names. It is a byte of a file, so that nothing is left of it when its
// holder dies. Who holds the one of a name may ask for the one of a digest, and
// not the other way round.
func (s *Store) lock(ctx context.Context, what string) (unlock func(), err error) {
	const pause = 50 * time.Millisecond
	for {
		unlock, err := s.tryLock(what)
		if !errors.Is(err, errLocked) {
			return unlock, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Store) tryLock(what string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "locks"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(what))
	at := int64(binary.LittleEndian.Uint64(sum[:]) >> 2)
	if err := ofdLock(f, unix.F_WRLCK, at, 1); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// ofdLock locks n bytes of a file, all for 0, for as long as it is open.
func ofdLock(f *os.File, kind int16, at, n int64) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: n})
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return errLocked
	case err != nil:
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}
