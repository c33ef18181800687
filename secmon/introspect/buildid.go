package introspect

import "bytes"

// The note that holds a build id (elf(5), NT_GNU_BUILD_ID): length of the name
// and of the id, type, name. The id is a SHA-1.
var buildIDNote = []byte("\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00")

const buildIDSize = 20

// buildID is the kernel's own, "" where it has none: that among its notes. Other
// build ids in an image are those of the vDSO.
func buildID(im *image, syms *Symbols) string {
	start, ok1 := syms.Lookup("__start_notes")
	stop, ok2 := syms.Lookup("__stop_notes")
	if !ok1 || !ok2 || stop.Addr <= start.Addr || stop.Addr-start.Addr > 4096 {
		return ""
	}
	notes := im.bytes(start.Addr, stop.Addr-start.Addr)
	i := bytes.Index(notes, buildIDNote)
	if i < 0 || len(notes)-i < len(buildIDNote)+buildIDSize {
		return ""
	}
	return string(notes[i+len(buildIDNote):][:buildIDSize])
}

// known is a kernel of this process's files with a build id that stands in the
// image.
func known(im *image) *Kernel {
	opened.Lock()
	defer opened.Unlock()
	if len(opened.byID) == 0 {
		return nil
	}
	for _, s := range im.segments {
		for data := s.data; ; {
			i := bytes.Index(data, buildIDNote)
			if i < 0 || len(data)-i < len(buildIDNote)+buildIDSize {
				break
			}
			data = data[i+len(buildIDNote):]
			if k := opened.byID[string(data[:buildIDSize])]; k != nil {
				return k
			}
		}
	}
	return nil
}
