package vmm_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"warder/internal/testguest"
)

// reloadDriver takes the driver of a kind of device away and gives it back: with its
// module, or, where the kernel has it inside, from its device alone.
func reloadDriver(g *testguest.Guest, module, id string) {
	if _, err := modulePath(module); err == nil {
		unload(g, module)
		load(g, module)
		return
	}
	device := deviceOf(g, id)
	driver, err := filepath.EvalSymlinks(filepath.Join(device, "driver"))
	g.Check(err)
	rebindDriver(g, driver, device)
}

// rebindDriver takes a driver away from its device and gives it back.
func rebindDriver(g *testguest.Guest, driver, device string) {
	for _, file := range []string{"unbind", "bind"} {
		g.Check(os.WriteFile(filepath.Join(driver, file), []byte(filepath.Base(device)), 0))
	}
}

// deviceOf is the last device of a kind, as virtio numbers them.
func deviceOf(g *testguest.Guest, id string) (device string) {
	all, err := filepath.Glob("/sys/bus/virtio/devices/*")
	g.Check(err)
	for _, d := range all {
		got, err := os.ReadFile(filepath.Join(d, "device"))
		g.Check(err)
		if strings.TrimSpace(string(got)) == id {
			device = d
		}
	}
	return device
}

// unload takes a module out of the kernel as soon as nobody uses it.
func unload(g *testguest.Guest, module string) {
	eventually(g, func() (bool, bool) {
		err := unix.DeleteModule(module, unix.O_NONBLOCK)
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY) {
			g.Fatal("unload ", module, ": ", err)
		}
		return true, err == nil
	})
}

// load loads a module that was there when the guest came up.
func load(g *testguest.Guest, module string) {
	path, err := modulePath(module)
	g.Check(err)
	f, err := os.Open(path)
	g.Check(err)
	defer f.Close()
	g.Check(unix.FinitModule(int(f.Fd()), "", 0))
}

// modulePath is where the guest has a module.
func modulePath(module string) (string, error) {
	paths, err := filepath.Glob("/modules/*-" + module + ".ko")
	if err != nil || len(paths) != 1 {
		return "", errors.Join(err, errors.New("no module "+module))
	}
	return paths[0], nil
}
