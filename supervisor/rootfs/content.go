package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	maxJSON   = 4 << 20 // bytes of a manifest, an index, a configuration
	maxLayers = 512
)

// content is an image as it comes: its configuration, which names what is in its
// layers by digest, and the layers.
type content struct {
	raw    []byte // the configuration
	config v1.ConfigFile
	layers []source
	size   int64 // of all layers as they come, in bytes
	close  func() error
}

// source is where a layer can be read, compressed or not.
type source struct {
	size int64
	open func() (io.ReadCloser, error)
}

// opener opens what a manifest names.
type opener func(v1.Descriptor) (io.ReadCloser, error)

// digest names the content: what container tools call the id of an image.
func (c *content) digest() string {
	sum := sha256.Sum256(c.raw)
	return hex.EncodeToString(sum[:])
}

// setConfig takes in the configuration, once all layers are there.
func (c *content) setConfig(raw []byte, arch string) error {
	c.raw = raw
	if err := json.Unmarshal(raw, &c.config); err != nil {
		return fmt.Errorf("its configuration: %w", err)
	}
	switch n := len(c.config.RootFS.DiffIDs); {
	case n != len(c.layers):
		return fmt.Errorf("its configuration is of %d layers, and there are %d", n, len(c.layers))
	case n == 0:
		return errors.New("it has no layers")
	}
	if c.config.OS != "linux" || c.config.Architecture != arch {
		return fmt.Errorf("it is for %s/%s, guests here are linux/%s", clip(c.config.OS), clip(c.config.Architecture), arch)
	}
	return nil
}

// layerTypes are of layers that are archives; the others are something else, or
// encrypted, or elsewhere.
var layerTypes = map[types.MediaType]bool{
	types.OCILayer: true, types.OCILayerZStd: true, types.OCIUncompressedLayer: true,
	types.DockerLayer: true, types.DockerUncompressedLayer: true,
}

// fromManifest reads an image of which the manifest is known. Blob opens what the
// manifest names.
func fromManifest(raw []byte, arch string, blob opener) (*content, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("it has %d layers: there can be %d", len(m.Layers), maxLayers)
	}
	c := &content{}
	for _, d := range m.Layers {
		switch {
		case !layerTypes[d.MediaType] || len(d.URLs) > 0:
			return nil, fmt.Errorf("a layer of it, %s, is of the type %q: that is not for VMs", d.Digest, clip(string(d.MediaType)))
		case d.Size < 0:
			return nil, fmt.Errorf("a layer of it, %s, has %d bytes", d.Digest, d.Size)
		}
		c.layers = append(c.layers, source{d.Size, func() (io.ReadCloser, error) { return blob(d) }})
		c.size += d.Size
	}
	config, err := readBlob(m.Config, blob)
	if err != nil {
		return nil, fmt.Errorf("its configuration: %w", err)
	}
	return c, c.setConfig(config, arch)
}

// readBlob reads a short blob, and checks its digest.
func readBlob(d v1.Descriptor, blob opener) ([]byte, error) {
	if d.Size > maxJSON {
		return nil, fmt.Errorf("%s has %d bytes: there can be %d", d.Digest, d.Size, maxJSON)
	}
	r, err := blob(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readShort(r)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); d.Digest.Algorithm != "sha256" || hex.EncodeToString(sum[:]) != d.Digest.Hex {
		return nil, fmt.Errorf("what is there is not %s", d.Digest)
	}
	return b, nil
}

// readShort reads all of what is not to be long.
func readShort(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxJSON+1))
	if err == nil && len(b) > maxJSON {
		err = fmt.Errorf("more than %d bytes", maxJSON)
	}
	return b, err
}

// maxDefaults bounds what an image says of its command, in bytes. It has to go
// into one message to the guest, beside what others say.
const maxDefaults = 256 << 10

// Config is what an image says of the command that it is for, where nobody says
// otherwise.
type Config struct {
	Args []string `json:"args,omitempty"` // its entry point and what follows
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	User string   `json:"user,omitempty"`
}

// defaults is what the image says of its command.
func (c *content) defaults() (Config, error) {
	given := c.config.Config
	d := Config{Args: append(append([]string(nil), given.Entrypoint...), given.Cmd...), Env: given.Env, Dir: given.WorkingDir, User: given.User}
	n := len(d.Dir) + len(d.User)
	for _, s := range append(append([]string{d.Dir, d.User}, d.Args...), d.Env...) {
		if strings.ContainsRune(s, 0) {
			return d, fmt.Errorf("its configuration has a zero byte in %q", clip(s))
		}
		n += len(s)
	}
	if n > maxDefaults {
		return d, fmt.Errorf("its command and environment have %d bytes: there can be %d", n, maxDefaults)
	}
	if d.Dir != "" && !strings.HasPrefix(d.Dir, "/") {
		d.Dir = "/" + d.Dir
	}
	return d, nil
}
