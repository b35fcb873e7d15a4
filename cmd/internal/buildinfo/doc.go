// Package buildinfo says which build a command is. Both commands say it alike.
package buildinfo
