package gdbvm

import (
	"bytes"
	"errors"
	"io/fs"

	"warder/secmon/introspect"
	"warder/secmon/introspect/symfile"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// symbolFile is the path by which GDB knows the kernel's symbols.
const symbolFile = "/warder/kernel-symbols"

// Executable implements gdbstub.Target. There is none while it is not known where
// the kernel runs; a debugger that attaches later finds it.
func (t *target) Executable() string {
	if t.cfg.Kernel == "" {
		return ""
	}
	if _, err := t.File(symbolFile); err != nil {
		t.cfg.Log.Info("the debugger gets no symbols of the kernel", "reason", err)
		return ""
	}
	return symbolFile
}

// File implements gdbstub.Target.
func (t *target) File(path string) ([]byte, error) {
	if path != symbolFile || t.cfg.Kernel == "" {
		return nil, fs.ErrNotExist
	}
	if t.file != nil {
		return t.file, nil
	}
	k, err := introspect.Open(t.cfg.Kernel)
	if err != nil {
		return nil, err
	}
	g, err := t.locate(k)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := symfile.Write(&b, g); err != nil {
		return nil, err
	}
	t.file = b.Bytes()
	return t.file, nil
}

// locate finds where the kernel runs, through any vCPU that shows it.
func (t *target) locate(k *introspect.Kernel) (*introspect.Guest, error) {
	if t.cfg.Linked {
		return k.Linked()
	}
	err := introspect.ErrNotLocated
	for _, thread := range t.Threads() {
		var g *introspect.Guest
		e := t.d.On(thread.ID-1, func(v *vmm.VCPU) error {
			anchor, err := v.SyscallEntry()
			if err != nil {
				return err
			}
			s, err := v.AddressSpace()
			if err != nil {
				return err
			}
			if g, err = k.Locate(view{t.d, s}, anchor); err != nil && t.seen {
				g, err = k.Locate(view{t.d, t.kernel}, anchor)
			}
			return err
		})
		if e == nil {
			return g, nil
		}
		err = errors.Join(e)
	}
	return nil, err
}

// view is guest memory by virtual address.
type view struct {
	d     *vmm.Debugger
	space pagetable.Space
}

// ReadAt implements introspect.View.
func (v view) ReadAt(p []byte, va uint64) error {
	_, err := v.d.Read(v.space, va, p)
	return err
}
