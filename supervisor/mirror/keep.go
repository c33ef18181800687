package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"warder/secmon/introspect"
	"warder/vmm"
	"warder/vmm/vmcore"
)

// maxKept is how many files of a directory are kept: whoever makes supervisors fail
// must not fill the host's disk. The first ones tell how it began.
const maxKept = 8

// keep writes the memory of a machine that stands still, or has ended, into a directory,
// with its vCPUs' registers where there are any, as an ELF core file.
func keep(dir string, m *vmm.Machine) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	names, err := filepath.Glob(filepath.Join(dir, Name+"-*.core"))
	if err != nil {
		return "", err
	}
	if len(names) >= maxKept {
		return "", fmt.Errorf("%s has %d of them, and no more are kept: look at them and take them away", dir, len(names))
	}
	core, err := introspect.Core(introspect.Of(m), runtime.GOARCH)
	if err != nil { // it has ended: no vCPU tells its registers any more
		core = &vmcore.Core{Arch: runtime.GOARCH, Memory: m.Memory()}
	}
	path = filepath.Join(dir, fmt.Sprintf("%s-%s.core", Name, time.Now().UTC().Format("20060102T150405.000")))
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = core.Write(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(tmp))
	}
	return path, nil
}
