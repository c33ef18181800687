package introspect

import (
	"context"
	"errors"
	"fmt"
)

// FileInfo is an open file of a process.
type FileInfo struct {
	FD    int    `json:"fd"`
	Name  string `json:"name"` // as /proc/PID/fd shows it
	Kind  string `json:"kind"` // file, directory, socket, pipe, anon, ...
	Mode  string `json:"mode"` // r, w, rw, or - for neither
	Flags uint32 `json:"flags"`
	Pos   int64  `json:"pos"`
	Inode uint64 `json:"inode"`
	FS    string `json:"fs,omitempty"`
	// Missing says that the name could not be read.
	Missing bool    `json:"missing,omitempty"`
	File    Pointer `json:"file"` // its struct file
}

// maxFiles bounds the table of a process, whose usual limit is 1024 files.
const maxFiles = 1 << 18

// Files lists the open files of a process.
func (l *Live) Files(ctx context.Context, pid int) ([]FileInfo, error) {
	q := l.ask(ctx)
	t, err := q.find(pid)
	if err != nil {
		return nil, err
	}
	var all []FileInfo
	q.again(func() {
		all = all[:0]
		q.open(t, func(fd int, f object) {
			all = append(all, q.openFile(fd, f))
		})
	})
	if err := q.take(); err != nil {
		return nil, fmt.Errorf("introspect: files of process %d: %w", pid, err)
	}
	return all, nil
}

// open walks a process's table of open files.
func (q *question) open(t object, add func(fd int, f object)) {
	files := t.to("files", "files_struct")
	if q.err != nil || files.isNil() { // of one that has exited
		return
	}
	table := files.to("fdt", "fdtable")
	n, slots := table.uint("max_fds"), table.uint("fd")
	if q.err == nil && n > maxFiles {
		q.fail(fmt.Errorf("%w: a table of %d files", ErrWalk, n))
	}
	var page [4096]byte
	for fd := uint64(0); fd < n && q.err == nil; fd += uint64(len(page)) / 8 {
		p := page[:8*min(n-fd, uint64(len(page))/8)]
		q.memory(p, slots+8*fd)
		for i := 0; i < len(p) && q.err == nil; i += 8 {
			if f := le.Uint64(p[i:]); f != 0 {
				add(int(fd)+i/8, q.at("file", f))
			}
		}
	}
}

// Modes of a file (include/uapi/linux/stat.h) by kind.
var kinds = map[uint64]string{
	0o010000: "pipe", 0o020000: "character device", 0o040000: "directory", 0o060000: "block device",
	0o100000: "file", 0o120000: "link", 0o140000: "socket",
}

func (q *question) openFile(fd int, f object) FileInfo {
	inode := f.to("f_inode", "inode")
	info := FileInfo{
		FD: fd, File: Pointer(f.addr), Flags: uint32(f.uint("f_flags")), Pos: int64(f.uint("f_pos")),
		Mode: [4]string{"r", "w", "rw", "-"}[f.uint("f_flags")&3],
		Kind: "anon", Inode: inode.uint("i_ino"),
	}
	if kind, ok := kinds[inode.uint("i_mode")&0o170000]; ok {
		info.Kind = kind
	}
	if q.err != nil {
		return info
	}
	name, fs, err := q.fileName(f, info.Inode)
	if info.Name, info.FS = q.keep(name), q.keep(fs); err != nil {
		// A file of a closed descriptor may be used for another one by now.
		info.Missing = true
		if errors.Is(err, ErrWalk) {
			q.fail(err)
		}
	}
	return info
}

// fileName is what /proc/PID/fd shows of a file.
func (q *question) fileName(f object, inode uint64) (name, fs string, err error) {
	at, err := q.place(f.addr + q.layout.filePath.off)
	if err != nil {
		return "", "", err
	}
	if fs, _, err = q.fileSystem(at.mount); err != nil {
		return "", "", err
	}
	switch fs {
	case SocketFS:
		return fmt.Sprintf("socket:[%d]", inode), fs, nil
	case "pipefs":
		return fmt.Sprintf("pipe:[%d]", inode), fs, nil
	case "anon_inodefs":
		name, err = q.name(at.dentry)
		return "anon_inode:" + name, fs, err
	}
	if name, err = q.absolute(at); err != nil {
		return "", fs, err
	}
	if q.unlinked(q.at("dentry", at.dentry)) {
		name += " (deleted)"
	}
	return name, fs, nil
}

// unlinked says whether a name is not in its directory any more: it is not in
// the cache of names, and not a root either (include/linux/dcache.h).
func (q *question) unlinked(d object) bool {
	hashed := d.in("d_hash", "hlist_bl_node").uint("pprev") != 0
	root := d.uint("d_parent") == d.addr
	return q.take() == nil && !hashed && !root
}
