package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"warder/lab"
	"warder/vmm/hostinfo"
)

// rerunInLab runs a warder command line, without the word warder, in the lab.
// It takes the files that the command line names, by absolute paths, along at
// the same paths. tty gives the command this process's terminal.
func rerunInLab(ctx context.Context, arch string, c lab.Command, files []string, tty bool) error {
	cfg := lab.Config{Arch: arch, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	var size uint64
	for _, f := range files {
		n, err := sizeOf(f)
		if err != nil {
			return failed(err)
		}
		size += n
		cfg.Files = append(cfg.Files, lab.File{Host: f, Guest: f})
	}
	var err error
	if cfg.Memory, err = labMemory(size, hostinfo.ReadMemory().Available); err != nil {
		return failed(err)
	}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return labExit(ctx, lab.Rerun, cfg, c, tty)
}

// labMemory is how much memory a machine needs that is given files of so many bytes,
// which it has in memory twice while it boots.
func labMemory(files, available uint64) (uint64, error) {
	const usual, room = 2 << 30, 256 << 20 // some files fit into what it has anyway
	if files <= room {
		return usual, nil
	}
	memory := usual + 2*(files-room)
	if memory > available {
		return 0, fmt.Errorf("the emulated machine is given copies of files of %d MiB, and has them in memory twice: it needs %d MiB, and this machine has %d MiB available; give it less, or smaller images and disks",
			files>>20, memory>>20, available>>20)
	}
	return memory, nil
}

// sizeOf is how many bytes a file has, or all below a directory.
func sizeOf(path string) (size uint64, err error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return 0, err
	case !st.IsDir() && !st.Mode().IsRegular():
		return 0, fmt.Errorf("%s: only files and directories can be taken into the emulated machine", path)
	case !st.IsDir():
		return uint64(st.Size()), nil
	}
	return size, filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += uint64(info.Size())
		}
		return err
	})
}
