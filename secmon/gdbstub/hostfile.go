package gdbstub

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// file is one that the debugger has open.
type file struct{ data []byte }

// maxFiles bounds how many a debugger has open.
const maxFiles = 16

// Errors of host files (GDB manual, E.7.6 "Errno Values").
const (
	fileNotFound = "F-1,2"
	fileBadFD    = "F-1,9"
	fileInvalid  = "F-1,16"
	fileTooMany  = "F-1,18"
	fileReadOnly = "F-1,1e"
)

// hostFile is vFile: the debugger reads files of the target's, of which there is
// one (GDB manual, E.7 "Host I/O Packets").
func (s *session) hostFile(p string) []byte {
	op, args, _ := strings.Cut(p, ":")
	arg := strings.Split(args, ",")
	switch op {
	case "setfs":
		return []byte("F0")
	case "open":
		return []byte(s.openFile(arg))
	case "close":
		if fd, ok := s.fd(arg); ok {
			delete(s.files, fd)
			return []byte("F0")
		}
		return []byte(fileBadFD)
	case "pread":
		return s.preadFile(arg)
	case "fstat":
		fd, ok := s.fd(arg)
		if !ok {
			return []byte(fileBadFD)
		}
		st := statOf(len(s.files[fd].data))
		return append(fmt.Appendf(nil, "F%x;", len(st)), st...)
	case "readlink", "stat":
		return []byte(fileNotFound)
	case "pwrite", "unlink":
		return []byte(fileReadOnly)
	}
	return nil
}

func (s *session) openFile(arg []string) string {
	name, err := hex.DecodeString(arg[0])
	if err != nil || len(arg) != 3 {
		return fileInvalid
	}
	if flags, err := strconv.ParseUint(arg[1], 16, 32); err != nil || flags != 0 {
		return fileReadOnly
	}
	if len(s.files) >= maxFiles {
		return fileTooMany
	}
	data, err := s.t.File(string(name))
	if err != nil {
		return fileNotFound
	}
	fd := 3
	for _, used := s.files[fd]; used; _, used = s.files[fd] {
		fd++
	}
	s.files[fd] = file{data}
	return fmt.Sprintf("F%x", fd)
}

func (s *session) fd(arg []string) (int, bool) {
	n, err := strconv.ParseUint(arg[0], 16, 31)
	if err != nil {
		return 0, false
	}
	_, ok := s.files[int(n)]
	return int(n), ok
}

func (s *session) preadFile(arg []string) []byte {
	fd, ok := s.fd(arg)
	if !ok {
		return []byte(fileBadFD)
	}
	if len(arg) != 3 {
		return []byte(fileInvalid)
	}
	n, err := strconv.ParseUint(arg[1], 16, 64)
	off, err2 := strconv.ParseUint(arg[2], 16, 64)
	if err != nil || err2 != nil {
		return []byte(fileInvalid)
	}
	data := s.files[fd].data
	data = data[min(off, uint64(len(data))):]
	data = data[:min(n, maxMemory, uint64(len(data)))]
	return append(fmt.Appendf(nil, "F%x;", len(data)), data...)
}

// statOf is the protocol's struct stat of a file that everybody may read (GDB
// manual, E.7.8 "Protocol-specific Representation of Datatypes").
func statOf(size int) []byte {
	const regular, readable = 0o100000, 0o444
	b := binary.BigEndian
	var st []byte
	st = b.AppendUint32(st, 0)                    // st_dev
	st = b.AppendUint32(st, 1)                    // st_ino
	st = b.AppendUint32(st, regular|readable)     // st_mode
	st = b.AppendUint32(st, 1)                    // st_nlink
	st = append(st, make([]byte, 3*4)...)         // st_uid, st_gid, st_rdev
	st = b.AppendUint64(st, uint64(size))         // st_size
	st = b.AppendUint64(st, 512)                  // st_blksize
	st = b.AppendUint64(st, uint64(size+511)/512) // st_blocks
	return append(st, make([]byte, 3*4)...)       // times
}
