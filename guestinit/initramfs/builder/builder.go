// Package builder makes the base initramfs: PID 1, and a user land of u-root's
// commands as one program with many names.
//
// It needs the go tool and works offline when the module cache has what go.mod
// names. The same sources and Go release give the same bytes.
package builder

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/mkuimage/uimage/builder"
	"github.com/u-root/uio/llog"
)

// core are u-root's commands that a guest has. Every one costs image size and
// memory in each guest.
var core = strings.Fields(`
	base64 basename cat chmod chroot cmp comm cp date dd df dirname dmesg du
	echo false find free grep gzip head hexdump hostname id insmod ip ln
	losetup ls lsmod md5sum mkdir mkfifo mknod mktemp more mount mv nohup pidof
	ping poweroff printenv ps pwd readlink realpath rm rmmod seq shasum shutdown
	sleep sort strings stty sync tail tar tee time timeout touch tr true truncate
	tty umount uname uniq unshare uptime wc which xargs yes`)

// own are ours, where u-root has none.
var own = []string{
	"warder/guestinit/initramfs/cmds/env",
	"warder/guestinit/initramfs/cmds/kill",
	"warder/guestinit/initramfs/cmds/service",
	"warder/guestinit/initramfs/cmds/sh",
}

// files are what programs expect to find.
var files = []cpio.Record{
	cpio.StaticFile("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644),
	cpio.StaticFile("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n", 0o644),
	cpio.StaticFile("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644),
	cpio.StaticFile("etc/os-release", "ID=warder\nNAME=warder\nPRETTY_NAME=\"warder guest\"\n", 0o644),
	cpio.Directory("etc", 0o755),
	cpio.Directory("dev", 0o755),
	cpio.Directory("proc", 0o755),
	cpio.Directory("sys", 0o755),
	cpio.Directory("run", 0o755),
	cpio.Directory("tmp", 0o1777),
	cpio.Directory("root", 0o700),
	cpio.Directory("bin", 0o755),
	cpio.Directory("lib", 0o755),
	cpio.Directory("usr", 0o755),
	cpio.Symlink("bin/secret", "../init"),
	cpio.Symlink("usr/bin", "../bin"),
	cpio.Symlink("usr/sbin", "../bin"),
	cpio.Symlink("sbin", "bin"),
}

// Build writes the image for arch, a GOARCH name, as an uncompressed cpio
// archive. It is to be called inside this module.
func Build(w io.Writer, arch string, log *slog.Logger) error {
	tmp, err := os.MkdirTemp("", "warder-initramfs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	raw := filepath.Join(tmp, "raw.cpio")

	// Not runtime.GOROOT: it is empty in a program built with -trimpath.
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("the go tool is needed to build the user land: %w", err)
	}

	packages := slices.Clone(own)
	for _, c := range core {
		packages = append(packages, "github.com/u-root/u-root/cmds/core/"+c)
	}
	l := llog.New(slog.LevelWarn, func(format string, args ...any) { log.Warn(fmt.Sprintf(format, args...)) })
	opts := &golang.BuildOpts{ExtraArgs: []string{"-buildvcs=false"}}
	err = uimage.Create(l,
		uimage.WithEnv(golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH(arch),
			golang.WithGOROOT(strings.TrimSpace(string(goroot)))),
		uimage.WithBusyboxCommands(packages...),
		uimage.WithBusyboxBuildOpts(opts),
		uimage.WithCommands(opts, builder.Binary, "warder/guestinit/init"),
		uimage.WithSkipLDD(),
		uimage.WithTempDir(tmp),
		uimage.WithCPIOOutput(raw),
	)
	if err != nil {
		return fmt.Errorf("build user land for %s: %w", arch, err)
	}
	b, err := os.ReadFile(raw)
	if err != nil {
		return err
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(b)))
	if err != nil {
		return err
	}
	return write(w, arrange(records))
}

// arrange gives the records their places: the commands in /bin, PID 1 at
// /init, and nothing that names the build machine.
func arrange(built []cpio.Record) []cpio.Record {
	records := make(map[string]cpio.Record)
	for _, r := range built {
		if n, ok := strings.CutPrefix(r.Name, "bbin/"); ok {
			r.Name = "bin/" + n
		} else if r.Name == "bin/init" {
			r.Name = "init"
		} else {
			continue
		}
		records[r.Name] = r
	}
	for _, r := range files {
		records[r.Name] = r
	}
	out := make([]cpio.Record, 0, len(records))
	for _, r := range records {
		out = append(out, cpio.MakeReproducible(r))
	}
	// A directory sorts before what is in it.
	slices.SortFunc(out, func(a, b cpio.Record) int { return cmp.Compare(a.Name, b.Name) })
	for i := range out {
		out[i].Ino = uint64(i + 1)
	}
	return out
}

func write(w io.Writer, records []cpio.Record) error {
	c := cpio.Newc.Writer(w)
	if err := cpio.WriteRecords(c, records); err != nil {
		return err
	}
	return cpio.WriteTrailer(c)
}
