package system

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// LoadModules loads kernel modules in the given order, dependencies first. A
// module that is there already, or built in, is no error; after a failure it
// goes on with the next. A name that ends in .xz, .gz or .zst is left to the
// kernel to decompress.
func LoadModules(paths []string) error {
	var errs []error
	for _, p := range paths {
		if err := loadModule(p); err != nil {
			errs = append(errs, fmt.Errorf("module %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE // Linux 5.17
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	switch err {
	case nil, unix.EEXIST:
		return nil
	case unix.ENODEV:
		return errors.New("no device for it")
	case unix.ENOEXEC, unix.EINVAL:
		return fmt.Errorf("of another kernel, or damaged: %w", err)
	case unix.ENOENT:
		return fmt.Errorf("a symbol of another module is missing: %w", err)
	}
	return err
}
