package boardimage

import (
	"encoding/json"
	"os"
	"time"
)

// Paths in the initial RAM disk.
const (
	SettingsPath = "/etc/warder/board.json"
	ConfigPath   = "/etc/warder/host.yaml" // what is used without a medium
	CacheDir     = "/var/cache/warder"     // warder's cache, with the guests' kernel
	moduleDir    = "/lib/modules"
)

// Settings are what the machine's PID 1 goes by.
type Settings struct {
	Hostname string    `json:"hostname"`
	Modules  []string  `json:"modules"` // paths, in load order
	Volume   string    `json:"volume"`  // label of the boot medium; empty when there is none to wait for
	Built    time.Time `json:"built"`
}

// ReadSettings reads the settings of the machine that this process runs on.
func ReadSettings() (s Settings, err error) {
	text, err := os.ReadFile(SettingsPath)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}
