// The only program in the container images of a real test node: as `pause` it holds a pod's namespaces, as
// `serve` it shows what its container was given (environment, device nodes) and then answers over HTTP.
package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

const defaultAddress = ":8080"

// standard device nodes are in every container; whatever else is there was injected.
var standard = map[string]bool{
	"/dev/null": true, "/dev/zero": true, "/dev/full": true, "/dev/random": true,
	"/dev/urandom": true, "/dev/tty": true, "/dev/console": true, "/dev/ptmx": true,
}

type device struct {
	Path  string `json:"path"`
	Major uint64 `json:"major"`
	Minor uint64 `json:"minor"`
	// Opens tells whether the container may read it: the node alone is not the permission.
	Opens bool `json:"opens"`
}

type report struct {
	Environment map[string]string `json:"environment"`
	Devices     []device          `json:"devices"`
}

func devices() []device {
	found := []device{}
	_ = filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(path, "/dev/pts") || strings.HasPrefix(path, "/dev/mqueue") {
			return nil
		}
		var status syscall.Stat_t
		if standard[path] || syscall.Lstat(path, &status) != nil {
			return nil
		}
		if kind := status.Mode & syscall.S_IFMT; kind != syscall.S_IFCHR && kind != syscall.S_IFBLK {
			return nil
		}
		number := uint64(status.Rdev)
		file, err := os.Open(path)
		if err == nil {
			_ = file.Close()
		}
		major := (number>>8)&0xfff | (number>>32)&^uint64(0xfff)
		minor := number&0xff | (number>>12)&0xffffff00
		found = append(found, device{path, major, minor, err == nil})
		return nil
	})
	sort.Slice(found, func(i, j int) bool { return found[i].Path < found[j].Path })
	return found
}

func look() []byte {
	environment := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		environment[name] = value
	}
	text, _ := json.Marshal(report{environment, devices()})
	return append(text, '\n')
}

func main() {
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGTERM, syscall.SIGINT)
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	switch command {
	case "pause":
	case "serve":
		address := defaultAddress
		if len(os.Args) > 2 {
			address = os.Args[2]
		}
		_, _ = os.Stdout.Write(look())
		go func() {
			http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
				answer.Header().Set("Content-Type", "application/json")
				_, _ = answer.Write(look())
			})
			fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
			os.Exit(1)
		}()
	default:
		fmt.Fprintf(os.Stderr, "usage: %s pause | serve [ADDRESS], got %q\n", os.Args[0], os.Args[1:])
		os.Exit(2)
	}
	<-ending
}
