"""The commands of `saddlescope`, by what they are about; `command_line` puts them together."""
