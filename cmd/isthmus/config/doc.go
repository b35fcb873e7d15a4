// Package config is the isthmus configuration file: its shape, its defaults and
// the report of everything wrong with it at once. Load touches nothing but the
// file itself; what it returns is complete and valid.
package config
