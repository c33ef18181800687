package erofs

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// prefixes are the beginnings of names that the format has a number for. Others
// it cannot express.
var prefixes = []struct {
	text  string
	index byte
}{
	{"user.", 1},
	{"system.posix_acl_access", 2},
	{"system.posix_acl_default", 3},
	{"trusted.", 4},
	{"security.", 6},
}

// HasXattr tells whether an image can hold an attribute of that name.
func HasXattr(name string) bool {
	_, _, ok := splitXattr(name)
	return ok
}

// CheckXattrs says why a file cannot have these attributes.
func CheckXattrs(attrs map[string]string) error {
	_, err := encodeXattrs(attrs)
	return err
}

func splitXattr(name string) (index byte, rest string, ok bool) {
	for _, p := range prefixes {
		rest, ok := strings.CutPrefix(name, p.text)
		if ok && len(rest) <= MaxName && (rest != "") == strings.HasSuffix(p.text, ".") {
			return p.index, rest, true
		}
	}
	return 0, "", false
}

// xattrHeader is the size of what comes before the first attribute: a filter of
// names and a number of shared ones, neither of which is used.
const xattrHeader = 12

// encodeXattrs gives the area behind an inode, nothing without attributes.
func encodeXattrs(attrs map[string]string) ([]byte, error) {
	if len(attrs) == 0 {
		return nil, nil
	}
	b := make([]byte, xattrHeader)
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		index, rest, ok := splitXattr(name)
		value := attrs[name]
		if !ok || len(value) > maxXattrs {
			return nil, fmt.Errorf("attribute %q of %d bytes cannot be kept", name, len(value))
		}
		b = append(b, byte(len(rest)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(b, rest...)
		b = append(b, value...)
		b = append(b, make([]byte, -len(b)&3)...)
		if len(b) > maxXattrs {
			return nil, fmt.Errorf("its attributes are more than %d bytes", maxXattrs)
		}
	}
	return b, nil
}
