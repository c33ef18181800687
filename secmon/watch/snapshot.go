package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/introspect"
)

const (
	// maxSnapshots is how many snapshots of one machine are taken: a guest that has
	// alerts raised must not fill the host's disk.
	maxSnapshots = 4
	// spare is how many bytes of the disk a snapshot leaves free.
	spare = 64 << 20
	// locateTime is how long the guest's kernel is looked for, whose own notes make
	// a snapshot easier to read.
	locateTime = time.Second
)

// snapshot writes the memory of a machine, as it is at one moment, and the
// registers of its vCPUs as an ELF core file, which crash(8) and gdb(1) open. The
// machine stands still meanwhile.
func (m *machine) snapshot(dir string) (detail string, err error) {
	if dir == "" {
		return "", errors.New("there is no directory for snapshots: give one in the configuration")
	}
	m.standing.Lock()
	defer m.standing.Unlock()
	if m.snapshots >= maxSnapshots {
		return "", fmt.Errorf("%d snapshots of it have been taken, and no more are", maxSnapshots)
	}
	if err := m.room(dir); err != nil {
		return "", err
	}
	if !m.target.Machine.Paused() {
		if err := m.target.Machine.Pause(); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, m.target.Machine.Resume()) }()
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%s.core", m.target.Name, time.Now().UTC().Format("20060102T150405.000")))
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = m.dump(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(tmp))
	}
	m.snapshots++
	return path, nil
}

// dump writes the core file, with what the guest's kernel says where it is found.
func (m *machine) dump(f *os.File) error {
	soon, cancel := context.WithTimeout(context.Background(), locateTime)
	defer cancel()
	live, err := introspect.Attach(soon, introspect.Of(m.target.Machine), m.kernel)
	if err == nil {
		return live.Dump(context.Background(), f)
	}
	core, err := introspect.Core(introspect.Of(m.target.Machine), runtime.GOARCH)
	if err != nil {
		return err
	}
	return core.Write(f)
}

// room says whether the disk has room for a snapshot.
func (m *machine) room(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	need := uint64(spare)
	for _, r := range m.target.Machine.Memory().Regions() {
		need += uint64(len(r.Bytes))
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fmt.Errorf("%s has %d MiB free, and a snapshot needs %d", dir, free>>20, need>>20)
	}
	return nil
}
